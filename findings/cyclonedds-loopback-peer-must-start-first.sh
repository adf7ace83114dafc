#!/bin/bash
# cyclonedds 11.0.1: of two participants on one machine, without multicast and with localhost as
# their peer (as ROS 2 sets LOCALHOST discovery), one on the default interface and one whose
# configuration chooses 127.0.0.1 find each other only if the one on 127.0.0.1 starts first. Its
# announcement arrives at the other (the trace shows it) and is left out without a word. Needs an
# interface beside lo. Seen: 0 found in one order, 1 in the other, for as long as one waits.
# Exits 0 while that is so.
set -u
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q cyclonedds==11.0.1 || exit 2
cat > "$folder/participant.py" <<'PY'
import os, sys, time

kind, seconds = sys.argv[1], float(sys.argv[2])
interfaces = "<Interfaces><NetworkInterface address='127.0.0.1'/></Interfaces>"
os.environ["CYCLONEDDS_URI"] = f"""<CycloneDDS><Domain>
<General>{interfaces if kind == "loopback" else ""}<AllowMulticast>false</AllowMulticast></General>
<Discovery><ParticipantIndex>auto</ParticipantIndex>
<MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>
<Peers><Peer address='localhost'/></Peers></Discovery></Domain></CycloneDDS>"""
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsParticipant
from cyclonedds.domain import DomainParticipant

participant = DomainParticipant(93)
reader = BuiltinDataReader(participant, BuiltinTopicDcpsParticipant)
found, ends = set(), time.monotonic() + seconds
while time.monotonic() < ends:
    found |= {sample.key for sample in reader.read(10)} - {participant.guid}
    time.sleep(0.1)
print(len(found))
PY
found() { # by the second of two kinds
  "$folder/venv/bin/python" "$folder/participant.py" "$1" 16 > /dev/null & sleep 4
  "$folder/venv/bin/python" "$folder/participant.py" "$2" 8; wait
}
later=$(found default loopback) first=$(found loopback default)
echo "the one on 127.0.0.1 started second: found $later; first: found $first"
[ "$later" = 0 ] && [ "$first" = 1 ]
