from checkrein import Checkrein

client = Checkrein()
result = client.check(action="update", resource="users.accounts", payload={"record_count": 12})
result.raise_if_blocked()
print("it may run:", result.reason)
