"""The record of a client's requests, and the verdict on the client."""
