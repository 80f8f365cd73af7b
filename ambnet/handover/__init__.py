"""From one process to the next without a gap: the one that serves gives its listening sockets to the one that starts.

They meet at a unix socket and talk in packets of text (SOCK_SEQPACKET), with the sockets as SCM_RIGHTS (unix(7)):

    heir -> holder    ambassador hand-over 1    a process that starts, and the version of this that it speaks
    holder -> heir    sockets                   with some of them, as often as it takes; the first is where the two met
                      that is all
    heir -> holder    ready                     it knows all that it has to, and accepts nobody yet
    holder -> heir    yours                     it writes nothing any more, and still accepts
    heir -> holder    mine                      the heir serves now; the holder finishes what it has, and ends

Until `mine` the holder serves on, whatever becomes of the heir; instead of anything it may say `no, ` and why. One that
is told to end says `yours` unasked, and one that dies says nothing: either way it is the heir's turn. What is given are
the very sockets, not others at the same ports, so nobody who waits in their queues is lost.
"""
