"""Named, versioned data keys and the ciphers that use them."""
