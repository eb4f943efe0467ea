"""The face of the API server: paths, credentials, negotiation, streams."""
