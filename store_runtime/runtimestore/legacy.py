"""The six methods of the seed's `RuntimeStore` interface, for callers written against it.

Same names in snake_case; what the seed left open is defined by RuntimeStore: a miss is None, ttl 0 is no expiry, a
window holds what its seconds say.
"""

from store_runtime.runtimestore.store import RuntimeStore

LEGACY_NAMESPACE = "default"
"""The seed's cache had one namespace; here it is one of many, so nothing else can be read through it."""


class LegacyRuntimeStore:
    """A RuntimeStore behind the seed's method names."""

    def __init__(self, store: RuntimeStore) -> None:
        self._store = store

    def get_usage(self, provider: str, key_id: str, metric: str) -> float:
        """The lifetime total, 0 if unknown."""
        return self._store.get_usage(provider, key_id, metric)

    def set_usage(self, provider: str, key_id: str, metric: str, value: float) -> None:
        """Set the lifetime total."""
        self._store.set_usage(provider, key_id, metric, value)

    def increment_usage(self, provider: str, key_id: str, metric: str, delta: float) -> None:
        """Add to the lifetime total and to the windows."""
        self._store.increment(provider, key_id, metric, delta)

    def get_usage_in_window(self, provider: str, key_id: str, metric: str, window_seconds: int) -> float:
        """What was counted in the last `window_seconds`."""
        return self._store.window(provider, key_id, metric, window_seconds)

    def set_cache(self, key: str, value: str, ttl_seconds: int) -> None:
        """Keep a value for `ttl_seconds`; 0 is no expiry."""
        self._store.cache_set(LEGACY_NAMESPACE, key, value, ttl_seconds)

    def get_cache(self, key: str) -> str | None:
        """The value, None on a miss."""
        return self._store.cache_get(LEGACY_NAMESPACE, key)
