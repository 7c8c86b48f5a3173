"""`pdid report`: one HTML file about a corpus, to look at and to listen to, that needs nothing else."""
