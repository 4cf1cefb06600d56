"""What a container installs that lacks the packages by which a task reaches S3: exact wheels, by version and hash.

Metaflow's own command installs whatever a package index offers at that moment. These run on Python 3.9 and later on
every platform. To renew them: ``pip download --only-binary=:all: --python-version 3.9 --platform any --implementation
py --abi none boto3 requests``, then ``sha256sum``.
"""

from __future__ import annotations

PINS = (
    ("boto3", "=", "boto3", "boto3==1.42.97",
     "966e49f0510af9a64057a902b7df53d4348c447de0d3df4cc855dfd85e058fcd"),
    ("boto3", "=", "botocore", "botocore==1.42.97",
     "77d2c8ce1bc592d3fbd7c01c35836f4a5b0cac2ca03ccdf6ffc60faa16b5fadc"),
    ("boto3", "=", "s3transfer", "s3transfer==0.16.1",
     "61bcd00ccb83b21a0fe7e91a553fff9729d46c83b4e0106e7c314a733891f7c2"),
    ("boto3", "?", "jmespath", "jmespath==1.1.0",
     "a5663118de4908c91729bea0acadca56526eb2698e83de10cd116ae0f4e97c64"),
    ("boto3", "?", "dateutil", "python-dateutil==2.9.0.post0",
     "a8b2bc7bffae282281c8140a97d3aa9c14da0b136dfe83f850eea9a5f7470427"),
    ("boto3", "?", "six", "six==1.17.0",
     "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"),
    ("boto3", "?", "urllib3", "urllib3==2.6.3",
     "bf272323e553dfb2e87d9bfd225ca7b0f467b919d7bbd355436d3fd37cb0acd4"),
    ("requests", "=", "requests", "requests==2.32.5",
     "2462f94637a34fd532264295e186976db0f5d453d1cdd31473c85a6a161affb6"),
    ("requests", "?", "certifi", "certifi==2026.10.19.post1",
     "1324c476b4811eff41a8bc2122cd0bbd4d9c7234c725446d99ab1612b3a7fdd2"),
    ("requests", "?", "charset_normalizer", "charset-normalizer==3.5.3",
     "96e268b0cbda016ac519513294fcd17032264085b600abaac58b93049477e132"),
    ("requests", "?", "idna", "idna==3.20",
     "ab7ae7122974553370f0bdb919e1a960b2cd1bc1ef0276416d896db81c14582c"),
    ("requests", "?", "urllib3", "urllib3==2.6.3",
     "bf272323e553dfb2e87d9bfd225ca7b0f467b919d7bbd355436d3fd37cb0acd4"),
)  # fmt: skip
"""For each missing import: ``=`` if the wheel is installed in any case, for these fit each other only, or ``?`` if only
where its own import is missing, too; then its import, its requirement, and the SHA-256 of the file."""
