"""Endpoints: the addresses of the service, by what they answer. A module holds one class, which lists its endpoints."""
