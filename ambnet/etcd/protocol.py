"""gRPC and etcd's generated messages and services, loaded in the one right way. Import them from here only.

Before gRPC is loaded its environment is set: its C core writes multi-line complaints to standard error about every
failed handshake, which we report ourselves in one line; and its fork handlers are for programs that fork without exec,
which ours do not. Of aetcd nothing but the generated code is used.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import grpc
import grpc.aio
from aetcd.rpc import rpc_pb2 as rpc
from aetcd.rpc import rpc_pb2_grpc as services

__all__ = ["grpc", "rpc", "services"]
