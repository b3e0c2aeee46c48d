"""Records in Redis: videos, jobs, leases, exports and live workers.

Every key carries the owner; every stored document carries `schema_version`. Whatever must change together changes in
one Lua script, so that no crash can leave half of it.
"""
