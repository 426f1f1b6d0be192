"""Gallery of worlds under shifts: the pictures, their sheets and the page that shows them."""
