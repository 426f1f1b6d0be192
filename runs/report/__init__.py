"""Tables, figures, TensorBoard files and the one-file HTML report of a study."""
