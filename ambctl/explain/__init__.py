"""`ambctl explain`: why a service, an instance or a container is reached, or is not.

verb.py      the options, and the story: gather, judge, print
subject.py   PURE: what a name means
facts.py     PURE: what was found out, as values
gather.py    asks etcd, every program that is announced and, by a dial, the instances themselves
local.py     asks the Docker daemon here, where no registrar answers
judge.py     PURE: facts to findings, in the order in which one thing depends on another
views.py     PURE: where a proxy's view and etcd's records differ
text.py      PURE: findings as lines for people and as a JSON document
"""
