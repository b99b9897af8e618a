"""`tekton acp`: the platform as an agent of an editor."""
