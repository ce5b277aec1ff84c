"""Chinese: how hosts reach each other, in er doctor and when the gateway starts."""

from __future__ import annotations

SAID: dict[str, str] = {
    "other hosts": "其他主机",
    "host {}": "主机 {}",
    "no certificate for other hosts: {}": "没有给其他主机的证书：{}",
    "has no certificate for other hosts": "没有给其他主机的证书",
    "journalctl -u er-gateway; it is made at a start": "journalctl -u er-gateway；启动时会生成",
    "its certificate: {}": "它的证书：{}",
    "its certificate has ended; other hosts refuse it": "它的证书已过期；其他主机拒绝它",
    "its certificate ends on {} and was not renewed": "它的证书在 {} 到期，却没有更新",
    "its certificate for other hosts is good until {}; ER renews it": (
        "它给其他主机的证书有效到 {}；ER 会更新它"
    ),
    "none is known; er hosts shows who is there": "一台也不知道；er hosts 显示有哪些主机",
    "are listened for at {}": "在 {} 上监听",
    "nobody listens at {} ({})": "没有人在 {} 上监听（{}）",
    "sudo er apply; systemctl status er-gateway-hosts.socket": (
        "sudo er apply；systemctl status er-gateway-hosts.socket"
    ),
    "is reached at {}, {} ms away": "可在 {} 连到，往返 {} ms",
    "host {} has announced no certificate; er hosts shows all": (
        "主机 {} 没有公布证书；er hosts 显示所有主机"
    ),
    "what host {} announces as its certificate is none": "主机 {} 公布的证书不是证书",
    "at {} shows another certificate than it announces": "在 {} 出示的证书不是它公布的",
    "look at who answers there, and at both clocks; er hosts": (
        "看看那里是谁在应答，并核对两边的时钟；er hosts"
    ),
    "is not reached at {} ({}); its firewall has to let us in": (
        "在 {} 连不到（{}）；它的防火墙要放本机进来"
    ),
}
