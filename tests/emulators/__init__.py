"""Stand-ins for the providers that speak their wire protocols, start real ssh servers, and keep a bill."""
