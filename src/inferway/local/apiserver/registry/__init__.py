"""What the API server serves: kinds as data, and the verbs that read and change their objects."""
