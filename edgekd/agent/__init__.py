# SPDX-License-Identifier: Apache-2.0
"""The program that runs on the device: standard library, numpy and one runtime; Python 3.8 or newer.

It imports nothing of edgekd outside this folder, so it ships as one file (`edgekd-agent-<hash>.pyz`).
"""

__version__ = "0.1.0"
