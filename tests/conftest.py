"""What all tests share."""

import httpx2

# respx patches httpx; the SDK stands on httpx2. The alias must be made before anything imports httpx.
httpx2.alias_httpx()

pytest_plugins = ["claude_executor.testing.fixtures"]
