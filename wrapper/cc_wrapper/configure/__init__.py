"""What is generated before `claude` starts.

files      the contents, by path (pure)
prompt     the texts that are added to the system prompt (pure)
folder     reading and writing below a folder without following links
apply      puts the one through the other
"""
