"""A stand-in for the model server, in the entrypoint's tests: prints its arguments and ends as SERVER_BEHAVIOUR asks.

SERVER_BEHAVIOUR=stock       dies of SIGTERM at once, as the stock server does when it is not PID 1
SERVER_BEHAVIOUR=deaf        ignores SIGTERM
SERVER_BEHAVIOUR=exit:3      ends by itself, with this code
SERVER_BEHAVIOUR=abort       dies of SIGABRT
SERVER_BEHAVIOUR=orphans     leaves children behind, which end after their parent
"""

import os
import signal
import subprocess
import sys
import time

behaviour = os.environ.get("SERVER_BEHAVIOUR", "stock")
sys.stdout.write(" ".join(["arguments", *sys.argv[1:]]) + "\n")
sys.stdout.flush()
if behaviour == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif behaviour.startswith("exit:"):
    sys.exit(int(behaviour.partition(":")[2]))
elif behaviour == "abort":
    os.abort()
elif behaviour == "orphans":
    for _ in range(5):
        subprocess.run(["/bin/sh", "-c", "sleep 0.2 & exit 0"], check=True)
sys.stdout.write("serving\n")
sys.stdout.flush()
while True:
    time.sleep(1)
