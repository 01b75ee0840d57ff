"""What a comparison came to: curves, tables, figures, page and TensorBoard runs."""
