"""Drive and Timid: a road with traffic, cones and weather."""
