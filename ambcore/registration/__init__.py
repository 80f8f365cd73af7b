"""What a container becomes in the registry: from `docker inspect` to instances, or to the reasons why there are none.

registrar acts on these decisions; ambctl makes them anew to explain them.
"""
