"""Draft heads: small networks on the hidden states of a target, which propose in place of a draft model."""
