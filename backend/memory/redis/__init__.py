"""The session store on a Redis server, for several gateways."""
