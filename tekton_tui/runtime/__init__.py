"""What the console's screens stand on: frames, keys, themes, the connection to the backend."""
