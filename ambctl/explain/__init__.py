"""`ambctl explain`: why a service, an instance or a container is reached, or is not.

verb.py      the options, and the story: gather, judge, print
subject.py   PURE: what a name means
facts.py     PURE: what was found out, as values
gather.py    finds it out: whoever knows containers, then etcd's records, a dial of each, the proxies
fleet.py     asks etcd; programs.py every program that is announced or named; dial.py the instances themselves
local.py     asks the Docker daemon here, where no registrar answers
judge.py     PURE: facts to findings, in the order in which one thing depends on another
views.py     PURE: where a proxy's view and etcd's records differ
text.py      PURE: findings below who says them, and as a JSON document
"""
