"""The Endpoint Picker Protocol 1.0 over Envoy's ext_proc, for gateways other than Inferway's.

``machine`` is one request's conversation without I/O, ``wire`` the messages, ``server`` the pump.
"""
