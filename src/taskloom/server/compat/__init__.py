"""Other systems' clients: their wire, translated to our services and back. No storage, no second truth."""
