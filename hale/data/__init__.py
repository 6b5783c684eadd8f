"""Training and ranking queries: the index of their known answers, and batches of them."""
