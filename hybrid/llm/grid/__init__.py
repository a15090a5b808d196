"""A causal language model cut to a vocabulary of 16 words, in which one token is one cell of a grid."""
