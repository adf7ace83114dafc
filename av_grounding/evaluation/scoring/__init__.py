"""From answers to rows and from rows to numbers: one module for each kind of sample.

`score` runs sample by sample, in worker processes, on NumPy alone; `summarise` runs once, over
rows in the benchmark's order. So nothing depends on how samples were spread or batched.
"""
