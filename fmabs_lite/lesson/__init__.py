"""What the cells of a chapter use beside the method: figures, records, exercises."""
