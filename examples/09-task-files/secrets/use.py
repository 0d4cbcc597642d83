"""Has two secrets and tells one of them, which the console hides.

printf hush-hush | taskloom secret set EXAMPLE_TOKEN
printf sesame-open | taskloom secret set EXAMPLE_PASSWORD
"""

import os

from taskloom import get_secret

print(f"the token is {os.environ['EXAMPLE_TOKEN']}")
print(f"the password has {len(get_secret('EXAMPLE_PASSWORD'))} characters")
