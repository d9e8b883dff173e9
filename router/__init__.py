"""Routers: trained on path shards to choose, layer by layer, a prompt's path through a frozen model."""
