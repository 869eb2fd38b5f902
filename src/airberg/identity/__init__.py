"""Access tokens: verification against an OIDC issuer, and the development issuer."""
