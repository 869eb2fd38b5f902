"""Reading tables with their encrypted columns decrypted, for those who may use the keys."""
