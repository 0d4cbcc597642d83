"""The commands: arguments in, a call, text or JSON out. One file a noun; no rules of the product live here."""
