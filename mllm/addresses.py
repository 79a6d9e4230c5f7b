"""Which base URLs a connection may have, so that the product is no door into its own network."""

import ipaddress
import socket
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")


class AddressError(ValueError):
    """An address that is not allowed. The message is a sentence for the user."""


def check_base_url(url: str, *, allow_private: bool, resolve: bool = True) -> None:
    """Raise `AddressError` unless `url` is an http(s) address that may be called.

    Unless `allow_private`, no address that the host name resolves to may be on this machine or in a private
    network. With `resolve=False` only an address that is written out is checked; names are then left to
    `check_ip` at connect time, which must run in any case because a name can change its address.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressError("This is not a valid URL.") from None
    if parts.scheme not in ("http", "https"):
        raise AddressError("The base URL must begin with http:// or https://.")
    if parts.username is not None or parts.password is not None:
        raise AddressError("The base URL must not contain a user name or password. Enter the key as the key.")
    if not host:
        raise AddressError("The base URL has no host name.")
    if parts.query or parts.fragment:
        raise AddressError("The base URL must not contain “?” or “#”.")
    if any(character.isspace() or ord(character) < 32 for character in url.strip()):
        raise AddressError("The base URL must not contain spaces or control characters.")
    address = written_out_address(host)
    if address is not None:
        check_ip(address, host, allow_private=allow_private)
    elif resolve:
        for found in _resolve(host, port or (443 if parts.scheme == "https" else 80)):
            check_ip(found, host, allow_private=allow_private)


def check_ip(address: IPAddress, host: str, *, allow_private: bool) -> None:
    """Raise `AddressError` where `host`, found at `address`, may not be called.

    Link-local (where clouds serve their credentials) and multicast addresses are refused always.
    """
    for inner in (address, *_embedded(address)):
        if inner.is_link_local or inner.is_multicast:
            raise AddressError(f"{host} is a link-local or multicast address, where no model server can be.")
        if not allow_private and not _is_public(inner):
            raise AddressError(
                f"{host} is on this machine or in a private network. "
                "An administrator can allow private addresses for model servers."
            )


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not address.is_reserved and not address.is_unspecified


def _embedded(address: IPAddress) -> list[IPAddress]:
    """The IPv4 addresses that an IPv6 address stands for; a gateway would deliver to them."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inner: list[IPAddress] = []
    if address.ipv4_mapped is not None:
        inner.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner.extend(address.teredo)
    if address in _NAT64 or address in _IPV4_COMPATIBLE:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return inner


def written_out_address(host: str) -> IPAddress | None:
    """The address that the host is, or None where it is a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _resolve(host: str, port: int) -> list[IPAddress]:
    # getaddrinfo also understands 127.1 and 0x7f000001, which ipaddress does not take for addresses.
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressError(f"The host name {host} cannot be found. Check its spelling.") from None
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
