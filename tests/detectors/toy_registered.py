"""What an entry point would name: registers the toy family."""

from edgekd.detectors.families import register
from tests.detectors.toy import ToyFamily

register(ToyFamily())
