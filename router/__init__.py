"""Router training: from path shards to per-layer routers. Its commands come with the router stage."""
