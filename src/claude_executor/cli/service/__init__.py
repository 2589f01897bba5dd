"""Servers and services the commands use: gateway, simulator process, Rate Limits API, shared group."""
