"""The pump around adapter placement: LoRAAdapters, model servers and waiting requests.

The decisions are ``inferway.scheduling.placement``'s. Without a LoRAAdapter of the pool nothing
here sends anything anywhere.
"""
