"""Several gateways on one store: who is a member, who leads, and the event log they share."""
