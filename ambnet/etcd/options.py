"""The options by which every program finds etcd, declared once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ambcore.schema import DEFAULT_PREFIX, normal_prefix
from ambnet.etcd.config import EtcdConfig, etcd_config
from ambnet.options import option


@dataclass(frozen=True, kw_only=True)
class EtcdOptions:
    """How to reach etcd, and where in it the records lie."""

    HEADING = "etcd"

    etcd: str | None = option(
        "--etcd",
        default=None,
        help="etcd's URLs, comma separated; default: a Docker link named etcd, else http://127.0.0.1:2379",
        env=["AMB_ETCD"],
        metavar="URL[,URL…]",
    )
    etcd_ca: str | None = option(
        "--etcd-ca", default=None, help="CA certificates to trust, PEM", env=["AMB_ETCD_CA"], metavar="FILE"
    )
    etcd_cert: str | None = option(
        "--etcd-cert", default=None, help="client certificate, PEM", env=["AMB_ETCD_CERT"], metavar="FILE"
    )
    etcd_key: str | None = option(
        "--etcd-key", default=None, help="client certificate's key, PEM", env=["AMB_ETCD_KEY"], metavar="FILE"
    )
    etcd_user: str | None = option("--etcd-user", default=None, help="etcd user", env=["AMB_ETCD_USER"], metavar="NAME")
    etcd_password_file: str | None = option(
        "--etcd-password-file",
        default=None,
        help="file holding the user's password",
        env=["AMB_ETCD_PASSWORD_FILE"],
        metavar="FILE",
    )
    prefix: str = option(
        "--prefix", default=DEFAULT_PREFIX, help="where records lie in etcd", parse=normal_prefix, env=["AMB_PREFIX"]
    )

    def etcd_config(self, environ: Mapping[str, str] = os.environ) -> EtcdConfig:
        """The client's configuration; raises ConfigError naming the option that is wrong."""
        return etcd_config(
            self.etcd,
            ca=self.etcd_ca,
            cert=self.etcd_cert,
            key=self.etcd_key,
            user=self.etcd_user,
            password_file=self.etcd_password_file,
            environ=environ,
        )
