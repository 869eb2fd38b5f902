"""Key-encryption keys in key services and hardware. Each needs a client library: an extra of the package."""
