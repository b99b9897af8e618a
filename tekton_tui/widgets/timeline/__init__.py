"""What the timeline is made of."""
