"""Team turns: one question to many specialists, rounds of discussion, moderation."""
