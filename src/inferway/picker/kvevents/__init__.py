"""What model servers publish of their KV caches: subscriptions, sequence, decoding."""
