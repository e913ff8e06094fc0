"""A job in a process of its own, to be killed and stopped: told on stdin what to do,
it says on stdout what came of it. Its chunks are the numbers from `already` on.

    python job.py STREAM '{"run": …, other arguments of Producer}'

    write N      write so many numbers            -> written UPTO
    pour N       write numbers up to N, 100/s     -> poured UPTO, now and then
    flood        write as fast as possible
    flush        wait until all is in             -> flushed SEQ
    hand_over                                     -> handed {…}
    end                                           -> ended SEQ

It begins with `open ALREADY`, and what stops it is told as its name: `Fenced`, …
"""

from __future__ import annotations

import json
import sys
import time

from tailrace import Producer, TailraceError


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    stream, options = sys.argv[1], json.loads(sys.argv[2])
    stopped = options.pop("tell_stop", False)
    if stopped:
        options["on_stop"] = lambda error: say("stopped", type(error).__name__)
    try:
        with Producer(stream, **options) as producer:
            say("open", producer.already)
            work(producer)
    except TailraceError as error:
        say(type(error).__name__, json.dumps(error.facts))


def work(producer: Producer) -> None:
    upto = producer.already
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "write":
            for _ in range(int(argument)):
                producer.write(upto)
                upto += 1
            say("written", upto)
        elif command == "pour":
            while upto < int(argument):
                producer.write(upto)
                upto += 1
                if upto % 10 == 0:
                    say("poured", upto)
                time.sleep(0.01)
        elif command == "flood":
            say("flooding")
            while True:
                producer.write(upto)
                upto += 1
        elif command == "flush":
            producer.flush()
            say("flushed", producer.seq)
        elif command == "hand_over":
            say("handed", json.dumps(producer.hand_over()))
            return
        elif command == "end":
            producer.end()
            say("ended", producer.seq)
            return


main()
