"""Objects as bytes under one revision counter, and the log of revisions that feeds watches."""
