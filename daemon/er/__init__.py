"""ER: embedding and reranking on your own GPUs."""

__version__ = "0.1.0"
