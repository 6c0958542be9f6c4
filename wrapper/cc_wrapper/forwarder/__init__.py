"""127.0.0.1 to the gateway's socket: `claude` knows an HTTP address, the gateway a unix socket and a token.

head    one request's head, checked and rewritten (pure)
server  connections: requests are parsed, responses are copied as bytes
"""
