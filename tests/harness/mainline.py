"""A node of libtorrent's DHT that obeys lines: one command a line from standard input, one JSON object a line back.

usage: mainline.py IP[,IP...] [HOST:PORT...]    binds a node at each address; further nodes are its entries

  peers N HASH              who node N finds under the hash
  announce N HASH           node N announces its port under it; tells the port
  nodes N                   how many nodes N knows
  get N TARGET              an immutable item
  put N TEXT                puts an immutable item; tells its target
  getm N KEY SALT           a mutable item
  putm N SEED KEY SALT TEXT puts a mutable item; hexadecimal keys, salt "-" for none
"""

import hashlib
import json
import sys
import time

import libtorrent as lt

PATIENCE = 20.0


def session(address):
    return lt.session({
        "listen_interfaces": f"{address}:0",
        "alert_mask": lt.alert.category_t.dht_notification | lt.alert.category_t.status_notification
        | lt.alert.category_t.error_notification | lt.alert.category_t.dht_operation_notification,
        "enable_dht": True,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "dht_bootstrap_nodes": "",
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_enforce_node_id": False,
        "dht_prefer_verified_node_ids": False,
        "dht_ignore_dark_internet": False,
        "dht_upload_rate_limit": 1000000,
        "dht_block_ratelimit": 100000,
    })


def wait(node, matching):
    """The first alert that is matched, or None."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for alert in node.pop_alerts():
            found = matching(alert)
            if found is not None:
                return found
        node.wait_for_alert(50)
    return None


def port_of(node):
    end = time.monotonic() + PATIENCE
    while node.listen_port() == 0 and time.monotonic() < end:
        time.sleep(0.01)
    return node.listen_port()


def sha1(text):
    return lt.sha1_hash(bytes.fromhex(text))


def plain(item):
    if isinstance(item, dict) and "value" in item:
        item = item["value"]
    return item.decode() if isinstance(item, bytes) else item


def peers(node, key):
    node.pop_alerts()
    node.dht_get_peers(sha1(key))
    found = set()

    def matching(alert):
        if isinstance(alert, lt.dht_get_peers_reply_alert) and str(alert.info_hash) == key:
            found.update("%s:%d" % peer for peer in alert.peers())
            return True
        return None

    end = time.monotonic() + 3
    while time.monotonic() < end and not found:
        wait(node, matching)
    return sorted(found)


def got(node, kind, of):
    def matching(alert):
        return alert if isinstance(alert, kind) and of(alert) else None

    alert = wait(node, matching)
    try:
        return None if alert is None else plain(alert.item)
    except RuntimeError:  # the binding's word for an item that was not found
        return None


def stored(node):
    return wait(node, lambda alert: alert.num_success if isinstance(alert, lt.dht_put_alert) else None)


def expanded(seed):
    """The private key of a seed, in the form that libtorrent signs with."""
    key = bytearray(hashlib.sha512(bytes.fromhex(seed)).digest())
    key[0] &= 248
    key[31] = key[31] & 63 | 64
    return bytes(key)


def obey(nodes, words):
    command, node = words[0], nodes[int(words[1])]
    if command == "peers":
        return peers(node, words[2])
    if command == "announce":
        # The binding cannot call dht_announce; a torrent announces itself, at the port that the node listens on.
        torrent = node.find_torrent(sha1(words[2]))
        if not torrent.is_valid():
            params = lt.add_torrent_params()
            params.info_hashes = lt.info_hash_t(sha1(words[2]))
            params.save_path = "/nonexistent"
            torrent = node.add_torrent(params)
        torrent.force_dht_announce()
        return node.listen_port()
    if command == "nodes":
        return node.status().dht_nodes
    if command == "get":
        node.pop_alerts()
        node.dht_get_immutable_item(sha1(words[2]))
        return got(node, lt.dht_immutable_item_alert, lambda alert: str(alert.target) == words[2])
    if command == "put":
        node.pop_alerts()
        target = node.dht_put_immutable_item(words[2])
        return {"target": str(target), "stored": stored(node)}
    salt = "" if words[3 if command == "getm" else 4] == "-" else words[3 if command == "getm" else 4]
    if command == "getm":
        node.pop_alerts()
        node.dht_get_mutable_item(bytes.fromhex(words[2]), salt.encode())
        return got(node, lt.dht_mutable_item_alert, lambda alert: alert.salt == salt)
    if command == "putm":
        node.pop_alerts()
        node.dht_put_mutable_item(expanded(words[2]), bytes.fromhex(words[3]), words[5].encode(), salt.encode())
        return {"stored": stored(node)}
    raise ValueError(command)


def main():
    addresses, entries = sys.argv[1].split(","), sys.argv[2:]
    nodes = [session(address) for address in addresses]
    own = [(address, port_of(node)) for address, node in zip(addresses, nodes)]
    known = own[:1] + [(host, int(port)) for host, port in (entry.rsplit(":", 1) for entry in entries)]
    for node, place in zip(nodes, own):
        for entry in known:
            if entry != place:
                node.add_dht_node(entry)
    print(json.dumps(["%s:%d" % place for place in own]), flush=True)
    for line in sys.stdin:
        try:
            answer = obey(nodes, line.split())
        except Exception as error:  # told to who asked, who fails with it
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


main()
